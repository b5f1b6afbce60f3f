# GPU workers (CUDA where the node has it).
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# One more index to take torch from; empty: PyPI's own build.
ARG TORCH_INDEX=
WORKDIR /build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/tenfold
COPY pyproject.toml constraints.txt ./
# What Tenfold needs first, so that a change of its own code installs nothing anew.
RUN touch README.md LICENSE && /opt/tenfold/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} '.[gpu,s3,tracing]'
COPY README.md LICENSE ./
COPY shared shared
COPY services services
COPY workers workers
RUN /opt/tenfold/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall . \
    && /opt/tenfold/bin/python -m workers.runtime.kernels \
    && rm -rf /opt/tenfold/lib/python3*/site-packages/pip /opt/tenfold/lib/python3*/site-packages/pip-* \
              /opt/tenfold/bin/pip*

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tenfold-gpu" \
      org.opencontainers.image.description="Tenfold: GPU workers (CUDA where the node has it)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin tenfold \
    && mkdir -p /data /secrets /redis /artifacts && chown 10001:10001 /data /secrets /redis /artifacts
COPY --from=build /opt/tenfold /opt/tenfold
ENV PATH=/opt/tenfold/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1 \
    TENFOLD_DATA=/data HOME=/data TMPDIR=/tmp \
    HF_HOME=/data/cache/huggingface TORCHINDUCTOR_CACHE_DIR=/data/cache/inductor TRITON_CACHE_DIR=/data/cache/triton
WORKDIR /data
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
# The worker's main process touches this file each round in which it reached Redis, whatever its jobs do.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD test -n "$(find /data/run -name '*.alive' -newermt '-60 seconds')"
CMD ["python", "-m", "workers", "worker", "--pool", "gpu"]
