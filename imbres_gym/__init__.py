"""imbres-gym: a microservice cluster, simulated or live, as Gymnasium environments; Imbres and its rivals as agents."""

__version__ = "0.1.0"
