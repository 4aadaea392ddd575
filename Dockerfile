# The gateway alone: what runs it, nothing that builds or tests it. `docker build -t session-gateway .`
# Python is that of the tests; the locks were made on it.
FROM python:3.11-slim-bookworm AS build

WORKDIR /build
RUN python -m venv /app && python -m venv /builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# First what seldom changes. Every file that pip takes has its hash in a lock.
COPY requirements.lock requirements-build.lock ./
RUN /app/bin/pip install --require-hashes --only-binary :all: --requirement requirements.lock \
 && /builder/bin/pip install --require-hashes --only-binary :all: --requirement requirements-build.lock

COPY pyproject.toml README.md ./
COPY clients/javascript/src clients/javascript/src
COPY store store
COPY gateway gateway
RUN /builder/bin/python -m hatchling build --target wheel --directory /build/dist \
 && /app/bin/pip install --no-deps --no-index /build/dist/*.whl \
 && /app/bin/pip uninstall --yes pip setuptools


FROM python:3.11-slim-bookworm

# A number, so that Kubernetes can see that it is not root.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway \
 && install -d -m 700 -o gateway -g gateway /data
COPY --from=build /app /app

# Outside of a container 127.0.0.1 is right. Here it would be heard by nobody; any other address needs one of
# GATEWAY_JWT_SECRET_FILE, GATEWAY_JWT_PUBLIC_KEY_FILE, GATEWAY_JWKS_URL, or the gateway does not start.
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_DATA_DIR=/data \
    GATEWAY_LOG_FORMAT=json

USER 10001
EXPOSE 8000 8001

# Alive, not ready: a node that waits for Postgres must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('GATEWAY_PORT', '8000')), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]

# SIGTERM drains: clients are told to move, what is in flight is committed. Give it longer than GATEWAY_DRAIN_S.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["serve"]
