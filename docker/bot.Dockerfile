# The bot: faces and command line, without torch. Build from the repository's root: docker build -f docker/bot.Dockerfile .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY core core
COPY worker worker
RUN python -m venv /opt/stationmaster \
    && /opt/stationmaster/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[bot]'

FROM python:3.11-slim
# A fixed id, so that the owner of the volume's files is the same in the bot's and the workers' containers.
RUN groupadd --gid 10001 stationmaster \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/stationmaster stationmaster \
    && install -d -o stationmaster -g stationmaster -m 0750 /var/lib/stationmaster
COPY --from=build /opt/stationmaster /opt/stationmaster
ENV PATH=/opt/stationmaster/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    STATIONMASTER_HOME=/var/lib/stationmaster
USER stationmaster
WORKDIR /var/lib/stationmaster
VOLUME /var/lib/stationmaster
CMD ["stationmaster", "bot"]
