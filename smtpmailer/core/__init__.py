# SPDX-License-Identifier: MIT
"""The pure core: values and rules, without I/O, clock or randomness."""
