# SPDX-License-Identifier: Apache-2.0
"""The HTML page: Python prepares what it shows (sections, dialogue), Jinja2 templates write it (page, templates/)."""
