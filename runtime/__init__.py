"""qcompile.runtime: run a build on a board; needs numpy and pyserial only."""
