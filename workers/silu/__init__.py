"""SiLU, x·σ(x): its facts, its rivals on paired networks, and its part in SwiGLU."""
