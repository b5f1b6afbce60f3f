"""One chat interface over OpenAI-compatible HTTP, local transformers and scripted replies."""
