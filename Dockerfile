# A static binary on nothing: docker build -t frameloop . && docker run --rm -p 8000:8000 frameloop
FROM rust:1.95-alpine AS build
RUN apk add --no-cache bash build-base
WORKDIR /frameloop
COPY . .
RUN package/build-static

FROM scratch
LABEL org.opencontainers.image.title="frameloop" \
      org.opencontainers.image.description="A WebSocket server: echo and chat endpoints to measure, test and fuzz against" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /frameloop/target/static/frameloop /frameloop
# Nobody.
USER 65534:65534
# The health check sees variables, but no flags. An engine kills what takes 10 s to stop.
ENV FRAMELOOP_LISTEN=0.0.0.0:8000 FRAMELOOP_DRAIN_TIMEOUT=8s
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=1s CMD ["/frameloop", "healthcheck"]
ENTRYPOINT ["/frameloop"]
