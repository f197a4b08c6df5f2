# The public half: it only asks the database, and is as healthy as that is.

case "$method $path" in
    "GET /health")
        timeout 2 wget -q -O /dev/null "$DATABASE_URL/health" ||
            answer '503 Service Unavailable' '{"status": "unhealthy", "reason": "the database does not answer"}'
        answer '200 OK' '{"status": "healthy"}'
        ;;
    "GET /v1/search")
        [ -n "$query" ] || answer '400 Bad Request' '{"error": "say ?q=some+words"}'
        matches=$(timeout 5 wget -q -O - "$DATABASE_URL/search?$query") ||
            answer '502 Bad Gateway' '{"error": "the database does not answer"}'
        answer '200 OK' "{\"results\": $matches}"
        ;;
esac
