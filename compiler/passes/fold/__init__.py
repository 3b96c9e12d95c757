"""How groups of float operators become quantized ones: a file for each kind, for fold_qdq."""
