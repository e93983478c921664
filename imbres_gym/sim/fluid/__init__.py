"""The fluid engine: response surfaces and flows in place of single requests (`docs/fluid-engine.md`)."""
