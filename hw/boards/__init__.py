"""hw/boards"""
