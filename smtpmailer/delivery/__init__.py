# SPDX-License-Identifier: MIT
"""Delivery: the SMTP client side, from a built message to one outcome per recipient."""
