"""Define the dashboards compactly; Grafana's JSON is generated from them.

A panel is one call here and forty lines of JSON, half of them boilerplate. After a change, run::

    python -m monitoring.dashboards

to write ``monitoring/grafana/dashboards/*.json``; a test checks that the files are up to date.
"""
