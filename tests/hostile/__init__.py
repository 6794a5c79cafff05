# SPDX-License-Identifier: MIT
"""Hostile inputs, each with its documented answer."""
