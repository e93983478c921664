# One image for both: the controller (`imbres-gym live`, any user) and the node agent (`imbres-gym node-agent`, root).
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/imbres-gym
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY imbres_gym ./imbres_gym
COPY envs ./envs
COPY agents ./agents
COPY configs ./configs
RUN /opt/imbres-gym/bin/pip install --no-cache-dir --constraint constraints.txt '.[live]'

FROM python:3.11-slim-bookworm
# iptables: also iptables-legacy and iptables-nft; iproute2: ss; nsenter and unshare are in util-linux.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iproute2 iptables nftables util-linux \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/imbres-gym /opt/imbres-gym
# The file system may be read-only: what is compiled and configured at run time goes to /tmp.
ENV PATH=/opt/imbres-gym/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
USER 65532:65532
ENTRYPOINT ["imbres-gym"]
CMD ["--help"]
