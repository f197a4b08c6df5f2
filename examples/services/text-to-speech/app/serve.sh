# We are process 1, which the kernel shields from signals that it has no handler for.
trap 'echo "bye"; exit 0' TERM INT
demo-http 8000 /app/api.sh &
wait
