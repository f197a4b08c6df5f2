#!/usr/bin/env bash
# The README as a session: every curl of it, against a nanny that serves examples/services, or
# against the demo (`nanny demo` says where its services are).
# Prints each command with its answer, and stops at the first answer that isn't the promised one.
#
#   examples/readme_session.sh [URL of the nanny] [the directory it serves]
#
# The README's services are called minimal-sd-api and another-gpu-service; here they are:
set -euo pipefail
first=stable-diffusion
second=llm-chat
nanny=${1:-http://localhost:8080}
services=${2:-$(dirname "$(realpath "$0")")/services}
new=$services/my-new-service

# The port at which a service's manifest says that it is asked for its health.
port() { sed -n 's|^health_endpoint: http://localhost:\([0-9]*\)/.*|\1|p' "$1/service.yaml"; }
endpoint=http://localhost:$(port "$services/$first")/health

# call STATUS CURL-ARGUMENTS...: the command, its answer, and whether the status is right.
call() {
    local status=$1 argument line='$ curl'
    shift
    for argument in "$@"; do
        [[ $argument =~ ^[A-Za-z0-9_./:=?-]+$ ]] && line+=" $argument" || line+=" '$argument'"
    done
    printf '\n%s\n' "$line"
    answer=$(curl -sS --max-time 150 -w '\n%{http_code}' "$@") || fail "no answer"
    local got=${answer##*$'\n'}
    answer=${answer%$'\n'*}
    printf '%s\n' "$answer"
    [[ $got == "$status" ]] || fail "status $got, not $status"
}

# has TEXT...: each is part of the last answer; a space after a colon is a matter of taste.
has() {
    local text
    for text in "$@"; do
        [[ ${answer//: /:} == *"${text//: /:}"* ]] || fail "the answer lacks $text"
    done
}

# becomes TEXT CURL-ARGUMENTS...: asks until the answer has it.
becomes() {
    local deadline=$((SECONDS + 120))
    until answer=$(curl -s --max-time 10 "${@:2}") && [[ ${answer//: /:} == *"${1//: /:}"* ]]; do
        ((SECONDS < deadline)) || fail "never $1 but $answer"
        sleep 0.2
    done
}

chapter() { printf '\n## %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*"; exit 1; }

# The new service by hand, without the nanny.
start_by_hand() {
    if [[ -e $new/docker-compose.yml ]]; then
        printf '\n$ docker compose up -d\n'
        docker compose -f "$new/docker-compose.yml" up -d
    else
        printf '\n$ PORT=%s nanny demo-service hello &\n' "$(port "$new")"
        PORT=$(port "$new") "$services/../nanny" demo-service hello &
        by_hand=$!
    fi
}
stop_by_hand() {
    if [[ -e $new/docker-compose.yml ]]; then
        docker compose -f "$new/docker-compose.yml" down
    elif [[ -n ${by_hand:-} ]]; then
        kill "$by_hand"
        wait "$by_hand"
        by_hand=
    fi
}

clean_up() {
    for name in "$first" "$second" my-new-service; do
        curl -s -o /dev/null -X POST "$nanny/services/$name/stop" || true
    done
    if [[ -d $new ]]; then
        stop_by_hand || true
        rm -r "$new"
        curl -s -o /dev/null -X POST "$nanny/rediscover" || true
    fi
}
[[ ! -e $new ]] || fail "$new is in the way"
clean_up
trap clean_up EXIT

chapter Quick start
call 200 "$nanny/health"
has '"status": "healthy"' '"services_discovered": ' '"services_running": '

chapter Service discovery
call 200 "$nanny/services"
has '"total": ' "\"name\": \"$first\"" "\"name\": \"$second\"" '"gpu_service_running": null'
call 200 "$nanny/services/$first"
has "\"name\": \"$first\"" '"description": "Stable Diffusion image generation"' '"version": "1.0.0"' \
    '"gpu_required": true' '"vram_gb": 8' "\"ports\": [\"$(port "$services/$first"):" \
    "\"health_endpoint\": \"$endpoint\"" '"image-generation"' '"status": "stopped"'

chapter Service control
call 200 -X POST "$nanny/services/$first/start"
has "\"message\": \"Service '$first' started successfully\"" '"status": "running"' \
    "\"health_endpoint\": \"$endpoint\""
call 200 -X POST "$nanny/services/$first/start" -H 'Content-Type: application/json' -d '{"force": true}'
has "\"message\": \"Service '$first' is already running\"" '"status": "running"'
call 200 -X POST "$nanny/services/$first/stop"
has "\"message\": \"Service '$first' stopped successfully\"" '"status": "stopped"'
call 200 -X POST "$nanny/services/$first/stop"
has "Service '$first' is not running"

chapter Service monitoring
call 200 -X POST "$nanny/services/$first/start"
becomes '"is_healthy": true' "$nanny/services/$first/status"
call 200 "$nanny/services/$first/status"
has "\"name\": \"$first\"" '"status": "running"' '"is_running": true' '"is_healthy": true' '"uptime": "0:0'
call 200 "$nanny/services/$first/logs?tail=50"
has "\"service\": \"$first\"" '"logs": "' 'listening on port ' '"tail": 50'

chapter System management
call 200 -X POST "$nanny/rediscover"
has '"message": "Service discovery completed"' '"services_discovered": '
call 200 "$nanny/health"

chapter GPU arbitration
call 200 -X POST "$nanny/services/$first/start"
call 409 -X POST "$nanny/services/$second/start"
has "GPU service '$first' is already running"
call 200 -X POST "$nanny/services/$second/start" -H 'Content-Type: application/json' -d '{"force": true}'
has "\"message\": \"Service '$second' started successfully\"" '"status": "running"'
call 200 "$nanny/services/$first/status"
has '"is_running": false' '"status": "stopped"'
call 200 "$nanny/services"
has "\"gpu_service_running\": \"$second\""

chapter Adding new services
printf '\n$ cp -r _template my-new-service; cd my-new-service\n'
cp -r "$services/_template" "$new"
start_by_hand
health=http://localhost:$(port "$new")/health
becomes ok "$health"
call 200 "$health"
stop_by_hand
call 200 -X POST "$nanny/rediscover"
call 200 "$nanny/services"
has '"name": "my-new-service"'

chapter Troubleshooting
call 200 "$nanny/services"
has "\"gpu_service_running\": \"$second\""
# curl sends this as a form, and it counts all the same.
call 200 -X POST "$nanny/services/$first/start" -d '{"force": true}'
has "\"message\": \"Service '$first' started successfully\""
call 200 "$nanny/services/$second/status"
has '"is_running": false'
becomes '"is_healthy": true' "$nanny/services/$first/status"
call 200 "$nanny/services/$first/status"
call 200 "$endpoint"
call 200 "$nanny/services/$first/logs?tail=50"

printf '\nEverything as the README says.\n'
