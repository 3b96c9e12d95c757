"""qcompile.hw: the accelerator, its configuration, and the formats it shares with the compiler."""
