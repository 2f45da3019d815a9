"""The range of numbers of 32 bits."""

FLOAT32_TINY, FLOAT32_MAX = 1.1754943508222875e-38, 3.4028234663852886e38
"""the smallest positive normal number of float32, and the largest"""
MAX_STEPS = 2**31 - 1
"""the largest int32, in which steps are counted"""
