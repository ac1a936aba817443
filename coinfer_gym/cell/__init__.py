"""A cell: several devices share one band and one server, each decision as in LAIM-v0."""
