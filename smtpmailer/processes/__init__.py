# SPDX-License-Identifier: MIT
"""The service as processes: one supervises, others serve; how they talk and are controlled."""
