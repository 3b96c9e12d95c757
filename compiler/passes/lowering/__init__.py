"""Integer operations as layers: a file for each kind of operation, used by `passes.lower`."""
