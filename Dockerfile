# The service in a container: a wheel is built, then installed with the extra `serve` for a user without rights.
#
#   docker build -t carso .
#   docker run --rm -p 8000:8000 carso                                        # the shipped MNIST defence
#   docker run --rm -p 8000:8000 -v "$PWD/out/mine:/defence:ro" carso /defence --host 0.0.0.0

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# An option of pip, such as --extra-index-url=URL of an index whose wheels of torch are without CUDA, and smaller.
ARG PIP_OPTION=""
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CARSO_DATA=/home/carso/data
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN wheel="$(find /wheels -name 'carso-*.whl')" \
    && python -m pip install --no-cache-dir ${PIP_OPTION:+"$PIP_OPTION"} \
        --constraint /tmp/constraints.txt "${wheel}[serve]" "onnxruntime>=1.20" \
    && useradd --create-home --uid 10001 carso
USER carso
WORKDIR /home/carso
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["carso", "serve"]
CMD ["mnist", "--host", "0.0.0.0"]
