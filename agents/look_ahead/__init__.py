"""An agent that tries plans in a model of the cluster before it acts (model-predictive control)."""
