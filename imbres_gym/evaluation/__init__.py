"""How agents are judged: whole episodes, their metrics, statistics over seeds, reports and figures."""
