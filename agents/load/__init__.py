"""Load policies: which share of a microservice's load goes to which host."""
