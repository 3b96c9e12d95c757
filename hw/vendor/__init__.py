"""hw/vendor"""
