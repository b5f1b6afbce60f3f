# The services: gateway, annotation, reconciler, Flower. No torch, no ray, no compiler.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /build
RUN python -m venv /opt/tenfold
COPY pyproject.toml constraints.txt ./
# What Tenfold needs first, so that a change of its own code installs nothing anew.
RUN touch README.md LICENSE && /opt/tenfold/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
        '.[gateway,s3,tracing]' flower psutil
COPY README.md LICENSE ./
COPY shared shared
COPY services services
COPY workers workers
RUN /opt/tenfold/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall . \
    && rm -rf /opt/tenfold/lib/python3*/site-packages/pip /opt/tenfold/lib/python3*/site-packages/pip-* \
              /opt/tenfold/bin/pip*

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tenfold-services" \
      org.opencontainers.image.description="Tenfold: gateway, annotation, reconciler, Flower" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin tenfold \
    && mkdir -p /data /secrets /redis /artifacts /s3 && chown 10001:10001 /data /secrets /redis /artifacts /s3
COPY --from=build /opt/tenfold /opt/tenfold
ENV PATH=/opt/tenfold/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TENFOLD_DATA=/data HOME=/data TMPDIR=/tmp
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gunicorn", "--config", "python:services.gateway.server", "--worker-tmp-dir", "/tmp"]
