# The web page in a container.
#   docker build -t sevila .                             for a machine without a GPU
#   docker build -t sevila --build-arg VARIANT=cuda .    for NVIDIA GPUs (docker run --gpus all ...)
#   docker run --rm -p 7860:7860 sevila
FROM python:3.12-slim

ARG VARIANT=cpu

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app
# The versions that CI was run with; pip takes them from PIP_CONSTRAINT, which hadolint's DL3013 does not know.
COPY constraints/python-3.12.txt constraints/

# PyPI's torch brings CUDA; the CPU build is on an index of its own. First, because it changes least.
ENV PIP_CONSTRAINT=/app/constraints/python-3.12.txt
# hadolint ignore=DL3013
RUN case "$VARIANT" in \
        cpu) pip install --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple torch ;; \
        cuda) pip install torch ;; \
        *) echo "unknown VARIANT $VARIANT; give cpu or cuda" >&2; exit 1 ;; \
    esac

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md CONTRIBUTING.md requirements.txt ./
COPY configs configs
COPY sevila_data sevila_data
COPY sevila_checkpoints sevila_checkpoints
COPY lavis lavis
# hadolint ignore=DL3013
RUN pip install ".[demo]"
COPY app.py ./

# Hosting services run containers as this user.
RUN useradd --create-home --uid 1000 visitor
USER 1000
# A container's own address is of no use to others; who may reach the port is said by `docker run -p`.
ENV GRADIO_SERVER_NAME=0.0.0.0
EXPOSE 7860
HEALTHCHECK --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860')"]
ENTRYPOINT ["python", "app.py"]
