//! The guard, around every route.

use nanny_server::Token;

use crate::api::{Api, edge, request};

#[tokio::test(start_paused = true)]
async fn g1_g3_strangers_reach_no_route() {
    let api = Api::new().await;
    for target in ["/services/web/start", "/rediscover", "/nope"] {
        let rebound = axum::http::Request::post(target).header("host", "evil.test:8080");
        let problem = api.send(rebound, "").await.problem(403, "forbidden_host");
        assert!(problem["detail"].as_str().unwrap().contains("evil.test:8080"));
        let forged = request("POST", target).header("origin", "http://evil.test");
        api.send(forged, "").await.problem(403, "forbidden_origin");
        let forged = request("POST", target).header("sec-fetch-site", "cross-site");
        api.send(forged, "").await.problem(403, "forbidden_origin");
        let nameless = axum::http::Request::post(target);
        api.send(nameless, "").await.problem(400, "invalid_request");
    }
    assert!(api.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn g6_a_token_is_asked_for_everywhere() {
    let token = Token::new("canary-token").expect("a token");
    let api = Api::with_edge(edge().with_token(token)).await;
    for target in ["/", "/health", "/services", "/nope"] {
        let answer = api.get(target).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let wrong = request("GET", target).header("authorization", "Bearer canary-tokem");
        assert!(!api.send(wrong, "").await.text.contains("canary"));
    }
    let right = request("GET", "/health").header("authorization", "Bearer canary-token");
    api.send(right, "").await.ok();
}
