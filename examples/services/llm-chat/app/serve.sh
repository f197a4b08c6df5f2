# Starts the server as the inference servers do: arguments first, then the model, then the port.
while [ $# -gt 0 ]; do
    case $1 in
        --port) port=$2 ;;
        --max-model-len) context=$2 ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
    shift 2
done

if [ ! -e "/models/$MODEL" ]; then
    echo "downloading $MODEL"
    touch "/models/$MODEL"
fi
echo "loading $MODEL, context of $context tokens"
sleep "$LOAD_SECONDS"
exec demo-http "$port" /app/api.sh
