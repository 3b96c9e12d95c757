"""Log-domain arithmetic: a systolic array without multipliers, and the encoder of its outputs."""
