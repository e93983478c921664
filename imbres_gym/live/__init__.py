"""A live cluster: reached over Kubernetes' API, measured by Prometheus and Jaeger, acted on by two controllers."""
