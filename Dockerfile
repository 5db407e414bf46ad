# Two stages: pip and its caches stay behind in the first.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY taskq ./taskq
RUN python -m venv /opt/taskq \
 && /opt/taskq/bin/pip install --no-cache-dir .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="taskq" \
      org.opencontainers.image.description="A distributed task queue for asyncio that brings its own broker" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/taskq /opt/taskq
ENV PATH=/opt/taskq/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TASKQ_BROKER_JOURNAL=sqlite:/var/lib/taskq/taskq.db
# A number, not a name: Kubernetes' runAsNonRoot can check only numbers.
RUN mkdir -p /var/lib/taskq /app && chown 10001:10001 /var/lib/taskq
USER 10001:10001
# Workers find the user's modules here: mount them, or build FROM this image and COPY them.
WORKDIR /app
VOLUME /var/lib/taskq
EXPOSE 7700
STOPSIGNAL SIGTERM
ENTRYPOINT ["taskq"]
CMD ["broker"]
