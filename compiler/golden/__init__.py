"""compiler/golden"""
