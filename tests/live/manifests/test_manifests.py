"""The manifests hang together, ask for no more than is needed, and every served Kubernetes takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from imbres_gym.cli import app
from imbres_gym.live.config import load_live_config
from imbres_gym.live.node.backends import all_backends
from imbres_gym.live.rights import RIGHTS

Object = dict[str, Any]
SERVED_BY_1_20 = {
    "v1": {"Namespace", "ServiceAccount"},
    "apps/v1": {"DaemonSet", "Deployment"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition"},
    "networking.k8s.io/v1": {"NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
}
AGENT = "imbres-gym-node-agent"
CONTROLLER = "imbres-gym-controller"


def only(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def pod_spec(objects: list[Object], kind: str, name: str) -> Object:
    spec: Object = only(objects, kind, name)["spec"]["template"]["spec"]
    return spec


def test_the_kustomization_lists_every_file_and_no_other(folder: Path, kustomization: Object) -> None:
    generated = [name for config in kustomization["configMapGenerator"] for name in config["files"]]
    listed = ["kustomization.yaml", *kustomization["resources"], *generated]
    assert sorted(listed) == sorted(path.name for path in folder.iterdir())


def test_every_object_is_of_an_api_that_kubernetes_1_20_serves(objects: list[Object]) -> None:
    for item in objects:
        assert item["kind"] in SERVED_BY_1_20[item["apiVersion"]]


def test_every_object_is_named_once_and_namespaced_where_it_must_be(objects: list[Object]) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)
    without = {kind for kind, namespace, _ in names if namespace is None}
    assert without == {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}


def test_bindings_and_pods_refer_to_what_is_there(objects: list[Object], kustomization: Object) -> None:
    def there(kind: str, name: str, namespace: str | None) -> bool:
        return any(
            (item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")) == (kind, name, namespace)
            for item in objects
        )

    for binding in (item for item in objects if item["kind"].endswith("Binding")):
        role = binding["roleRef"]
        namespace = binding["metadata"].get("namespace") if role["kind"] == "Role" else None
        assert there(role["kind"], role["name"], namespace)
        for subject in binding["subjects"]:
            assert there(subject["kind"], subject["name"], subject["namespace"])
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        workload = only(objects, kind, name)
        template = workload["spec"]["template"]
        assert there("ServiceAccount", template["spec"]["serviceAccountName"], workload["metadata"]["namespace"])
        assert workload["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == {
                v["name"] for v in template["spec"]["volumes"]
            }
            assert container["image"] in {image["name"] for image in kustomization["images"]}
    volumes = pod_spec(objects, "Deployment", CONTROLLER)["volumes"]
    maps = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert maps == {config["name"] for config in kustomization["configMapGenerator"]}


def test_no_rule_grants_everything(objects: list[Object]) -> None:
    for role in (item for item in objects if item["kind"] in {"Role", "ClusterRole"}):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"]


def test_the_controller_may_do_what_it_asks_for_and_nothing_else(objects: list[Object]) -> None:
    wanted: dict[bool, list[tuple[str, str, str]]] = {True: [], False: []}
    for right in RIGHTS:
        resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
        wanted[right.namespaced] += [(right.group, resource, verb) for verb in right.verbs]
    for namespaced, kind in ((True, "Role"), (False, "ClusterRole")):
        granted = [
            (group, resource, verb)
            for rule in only(objects, kind, CONTROLLER)["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        ]
        assert sorted(granted) == sorted(wanted[namespaced])


def test_the_example_is_a_valid_live_run_in_the_namespace_of_the_rights(objects: list[Object], folder: Path) -> None:
    config = load_live_config(folder / "live.yaml")
    for kind in ("Role", "RoleBinding"):
        assert only(objects, kind, CONTROLLER)["metadata"]["namespace"] == config.namespace
    (container,) = pod_spec(objects, "Deployment", CONTROLLER)["containers"]
    assert config.metrics_port == container["ports"][0]["containerPort"]


def test_the_controllers_arguments_are_options_of_the_command(objects: list[Object], folder: Path) -> None:
    (container,) = pod_spec(objects, "Deployment", CONTROLLER)["containers"]
    config = container["args"].index("--config") + 1
    assert container["args"][config] == "/etc/imbres-gym/live.yaml"
    arguments = [str(folder / "live.yaml") if k == config else word for k, word in enumerate(container["args"])]
    out = arguments.index("--out") + 1
    volumes = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert any(arguments[out].startswith(f"{path}/") for path in volumes)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "the pod's service account: not a usable kubeconfig" in " ".join(result.output.split())


def test_the_controller_has_no_privilege(objects: list[Object]) -> None:
    pod = pod_spec(objects, "Deployment", CONTROLLER)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_node_agent_has_four_capabilities_and_no_more(objects: list[Object]) -> None:
    # tests/testbed/node shows that these four are enough.
    pod = pod_spec(objects, "DaemonSet", AGENT)
    assert pod["hostPID"] is True
    assert not {"hostNetwork", "hostIPC"} & set(pod)
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert "privileged" not in context
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"]}
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_the_node_agents_arguments_are_options_of_the_command(objects: list[Object]) -> None:
    (container,) = pod_spec(objects, "DaemonSet", AGENT)["containers"]
    assert [item["name"] for item in container["env"]] == ["NODE_NAME"]
    result = CliRunner().invoke(app, container["args"], env={"NODE_NAME": "node-1", "KUBERNETES_SERVICE_HOST": ""})
    # It gets as far as looking for the service account or for a way to write rules, which there may not be here.
    assert result.exit_code == 2
    assert "No such option" not in result.output
    assert "Error: " in result.output


def test_metrics_are_scraped_and_probed_on_the_port_that_is_open(objects: list[Object]) -> None:
    policy = only(objects, "NetworkPolicy", "imbres-gym")
    assert policy["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "metrics"}]}]
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        template = only(objects, kind, name)["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (port,) = container["ports"]
        assert port["name"] == container["livenessProbe"]["httpGet"]["port"] == "metrics"
        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_the_image_has_what_every_backend_runs(folder: Path) -> None:
    package_of = {
        "iptables": "iptables",
        "nft": "nftables",
        "nsenter": "util-linux",
        "unshare": "util-linux",
        "ss": "iproute2",
    }
    text = (folder.parent.parent / "Dockerfile").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "apt-get install" in line)
    programs = {program for backend in all_backends() for program in backend.programs} | {"nsenter", "unshare", "ss"}
    for program in programs:
        assert package_of[program.split("-")[0]] in line.split()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    for name in (name for names in copied for name in names):
        assert (folder.parent.parent / name).exists()
