"""FIRM (OSDI '20): finds the critical microservices in traces, and lets a learned agent resize them."""
