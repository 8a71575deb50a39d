"""The routes, by what they are about; docs/serve.md describes every answer."""
