"""Cloudflare's own runtime, with the same objects as ours."""
