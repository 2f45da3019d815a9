"""The range of numbers of 32 bits."""

FLOAT32_TINY, FLOAT32_MAX = 1.1754943508222875e-38, 3.4028234663852886e38
"""the smallest positive normal number of float32, and the largest"""
INT32_MAX = 2**31 - 1
"""the largest int32, the type in which steps are counted"""
