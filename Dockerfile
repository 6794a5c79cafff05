# SPDX-License-Identifier: MIT
# docker build --tag smtpmailer .
# Runs as user 10001, also with a read-only root file system: it writes its volumes only.
ARG BASE=debian:bookworm-slim

# hadolint ignore=DL3006 # the argument names a release
FROM ${BASE} AS build
# hadolint ignore=DL3008 # Debian's stable release is the pin
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv
WORKDIR /source
COPY packaging/requirements.lock packaging/
RUN python3 -m venv /opt/smtpmailer \
    && /opt/smtpmailer/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        --requirement packaging/requirements.lock
COPY . .
# Twisted's plugin cache has to be newer than the plugins, and nobody can write it later.
RUN /opt/smtpmailer/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
    && debian/slim /opt/smtpmailer \
    && /opt/smtpmailer/bin/python -m compileall -q /opt/smtpmailer \
    && sleep 1 \
    && /opt/smtpmailer/bin/python -c 'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))' \
    && install -m 755 packaging/healthcheck.sh /opt/smtpmailer/bin/healthcheck

# hadolint ignore=DL3006
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/www/smtp-mailer --shell /usr/sbin/nologin smtpmailer
COPY --from=build /opt/smtpmailer /opt/smtpmailer
# Where the predecessor's image has them, so that its volumes fit.
WORKDIR /var/www/smtp-mailer
RUN mkdir -p Attachments Queue/mail Queue/temp Queue/failed Template/html run trap-mail \
    && chown -R smtpmailer:smtpmailer . \
    && chmod -R go= Queue run trap-mail
VOLUME ["/var/www/smtp-mailer/Attachments", "/var/www/smtp-mailer/Queue", "/var/www/smtp-mailer/Template", "/var/www/smtp-mailer/run"]
# They go before the env file, /var/www/smtp-mailer/.env, which may be missing: every key can be given as
# a variable, or as KEY_FILE=/run/secrets/NAME.
ENV PATH=/opt/smtpmailer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MAILER_ADDR=0.0.0.0 \
    MAILER_RUN_DIR=/var/www/smtp-mailer/run
USER 10001:10001
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "smtpmailer", "--basepath", "/var/www/smtp-mailer"]
