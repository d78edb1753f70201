# The image of one function: its folder, and what its requirements.txt names, on the runtime.
# `target` chooses: `plain` without, `dependencies` with requirements.
ARG BASE
FROM ${BASE} AS plain
COPY --chown=0:0 . /opt/function/source

FROM ${BASE} AS dependencies
USER 0:0
COPY requirements.txt /opt/function/dependencies/requirements.txt
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-deps \
      --trusted-host pypi.org --trusted-host files.pythonhosted.org \
      --require-hashes --target /opt/function/dependencies \
      --requirement /opt/function/dependencies/requirements.txt
COPY --chown=0:0 . /opt/function/source
USER 10001:10001
