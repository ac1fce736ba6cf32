# syntax=docker/dockerfile:1
# Two stages: the compiler stays behind, and what runs is one binary under a user of its own.

# The image has all that librdkafka, OpenSSL, zstd and SQLite are compiled with: a C and C++ compiler, make and perl.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
# A test holds its table of metrics against the code.
COPY README.md ./README.md
COPY src ./src
COPY migrations ./migrations
# `acequia demo` has the shop's SQL in it.
COPY queries ./queries
# Cargo wants every target of the manifest to be there, whatever it builds.
COPY benches ./benches
# The places of functions in their files would be most of the binary; their names stay for backtraces.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --profile dist --locked --bin acequia \
    && strip --strip-debug -o /usr/local/bin/acequia /target/dist/acequia

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/acequia --create-home acequia
COPY --from=build /usr/local/bin/acequia /usr/local/bin/acequia
COPY queries /etc/acequia/queries
USER 10001
WORKDIR /var/lib/acequia
VOLUME /var/lib/acequia
# The page; metrics and health.
EXPOSE 8501 9464
# SIGTERM drains; compose and Kubernetes must wait longer than --shutdown-timeout (25 s).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/acequia"]
CMD ["run", "/etc/acequia/queries"]
