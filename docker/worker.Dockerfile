# A worker: torch and the networks, without chat SDKs. Build from the repository's root: docker build -f docker/worker.Dockerfile .
# The CUDA libraries come with torch's wheels; the host needs NVIDIA's driver and container toolkit.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY core core
COPY worker worker
RUN python -m venv /opt/stationmaster \
    && /opt/stationmaster/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[worker,demo]'

FROM python:3.11-slim
RUN groupadd --gid 10001 stationmaster \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/stationmaster stationmaster \
    && install -d -o stationmaster -g stationmaster -m 0750 /var/lib/stationmaster
COPY --from=build /opt/stationmaster /opt/stationmaster
ENV PATH=/opt/stationmaster/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STATIONMASTER_HOME=/var/lib/stationmaster
USER stationmaster
WORKDIR /var/lib/stationmaster
VOLUME /var/lib/stationmaster
# SIGTERM means: finish the step, write a checkpoint, hand the job back.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker", "--kind", "gpu"]
