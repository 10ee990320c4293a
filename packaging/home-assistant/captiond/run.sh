#!/bin/sh
# Starts the daemon with the broker that the Supervisor offers, and the configuration where its user can edit it.
set -eu

config=${CAPTIOND_APP_CONFIG:-/config/captiond.toml}
data=${CAPTIOND_APP_DATA:-/data}
supervisor=${CAPTIOND_APP_SUPERVISOR:-http://supervisor}
template=${CAPTIOND_APP_TEMPLATE:-/etc/captiond/captiond.toml}

if [ ! -e "$config" ]; then
    cp "$template" "$config"
    echo "run.sh: wrote $config: name your cameras there" >&2
fi

# Where captions wait while the broker is away.
export STATE_DIRECTORY="$data"
CAPTIOND_LOG=$(jq -r '"\(.log // "info"),rumqttc=error"' "$data/options.json")
export CAPTIOND_LOG

if [ "$(jq -r '.broker // "home_assistant"' "$data/options.json")" = home_assistant ]; then
    # Other than 200 when no broker is installed; the token is no argument, which every process could read.
    if ! service=$(printf 'header = "Authorization: Bearer %s"\n' "$SUPERVISOR_TOKEN" |
        curl --silent --show-error --fail --max-time 30 --config - "$supervisor/services/mqtt"); then
        echo "run.sh: Home Assistant offers no broker: install the app Mosquitto, or set the option broker to configuration" >&2
        exit 1
    fi
    said() { printf '%s' "$service" | jq -r ".data.$1 // empty"; }
    CAPTIOND_MQTT_HOST=$(said host)
    CAPTIOND_MQTT_PORT=$(said port)
    CAPTIOND_MQTT_USERNAME=$(said username)
    CAPTIOND_MQTT_TLS=$(said ssl)
    export CAPTIOND_MQTT_HOST CAPTIOND_MQTT_PORT CAPTIOND_MQTT_USERNAME CAPTIOND_MQTT_TLS
    if [ -n "$(said password)" ]; then
        umask 077
        said password >"$data/mqtt-password"
        export CAPTIOND_MQTT_PASSWORD_FILE="$data/mqtt-password"
    fi
fi

exec captiond run --config "$config"
