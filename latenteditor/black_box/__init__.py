"""Editors that are a black box: what one is asked, its pictures kept, laid back over their photographs and judged."""
