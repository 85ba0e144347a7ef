"""Describe the dashboards in few words; Grafana's JSON is made of them.

A panel is one call here and forty lines there, half of them the same for all. After a change::

    python -m monitoring.dashboards

writes ``monitoring/grafana/dashboards/*.json``; a test holds these files to what is described.
"""
