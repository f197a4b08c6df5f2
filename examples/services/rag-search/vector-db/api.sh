# Plays a vector database: passages rank by how many of the query's words they have.

search() {
    words=$1 awk -F '\t' '
        BEGIN { n = split(tolower(ENVIRON["words"]), word, /[^a-z0-9]+/) }
        {
            score = 0
            for (i = 1; i <= n; i++) if (word[i] != "" && index(tolower($2), word[i])) score++
            if (score) print score "\t" $0
        }' /index/passages | sort -rn | head -n 3 | sed 's/[\\"]/\\&/g' |
        awk -F '\t' '{ printf "%s{\"score\": %d, \"document\": \"%s\", \"text\": \"%s\"}", sep, $1, $2, $3; sep = ", " }'
}

case "$method $path" in
    "GET /health") answer '200 OK' '{"status": "ok"}' ;;
    "GET /search") answer '200 OK' "[$(search "$(parameter q)")]" ;;
esac
