# SPDX-License-Identifier: MIT
"""Services: what each API request does, written against interfaces only."""
