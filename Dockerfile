# One image for web, workers and beat; compose.yaml says which part runs.
#   docker build -t neuron-repair .
#   docker build -t neuron-repair:gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim-bookworm AS packages
# The CPU build of torch is a tenth of the size of the default one; for GPUs give another index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt .
RUN grep -E '^(torch|torchvision)==' requirements.txt > torch.txt \
 && /venv/bin/pip install --index-url "$TORCH_INDEX" -r torch.txt \
 && /venv/bin/pip install -r requirements.txt

COPY pyproject.toml README.md LICENSE CHANGELOG.md /source/
COPY repair_engine /source/repair_engine
COPY shapley /source/shapley
COPY webapp /source/webapp
COPY templates /source/templates
COPY samples /source/samples
COPY clients /source/clients
RUN /venv/bin/pip install --no-deps /source

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 repair && mkdir /data && chown repair /data
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=webapp.settings NR_DATA_DIR=/data NR_COLLECTED_STATIC=1
RUN NR_DATA_DIR=/tmp/build SECRET_KEY=only-for-the-build-only-for-the-build \
    python -m webapp collectstatic --noinput && rm -rf /tmp/build
WORKDIR /app
USER repair
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:8000/livez', timeout=4)"]
CMD ["python", "-m", "webapp.serving", "--host", "0.0.0.0", "--port", "8000", "--processes", "2", "--access-log"]
