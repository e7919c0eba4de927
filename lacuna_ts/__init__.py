"""lacuna-ts: AI models for a tailnet, without handing out API keys."""

__version__ = "0.1.0"
