"""Scaling policies: how many containers each microservice has."""
