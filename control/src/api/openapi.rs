//! The API's own description.

use axum::Json;
use utoipa::OpenApi;

use super::{apps, deployments, explain, hosts, instances, logs, shards, wire};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir",
        description = "The admin API of Weir. Send `Authorization: Bearer TOKEN`."
    ),
    paths(
        apps::list,
        apps::read,
        apps::create,
        apps::put,
        apps::delete,
        deployments::deploy,
        deployments::redeploy,
        deployments::promote,
        deployments::roll_back,
        deployments::cancel,
        deployments::preview,
        deployments::list,
        deployments::read,
        apps::sleep,
        apps::wake,
        logs::logs,
        shards::list,
        shards::read,
        shards::put,
        shards::delete,
        instances::instances,
        hosts::list,
        hosts::read,
        hosts::put,
        hosts::delete,
        hosts::cordon,
        hosts::uncordon,
        hosts::drain,
        hosts::converge,
        hosts::converge_shard,
        explain::explain,
    ),
    components(schemas(wire::ProblemDetails))
)]
struct Document;

pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
