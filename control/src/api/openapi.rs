//! The API's own description.

use axum::Json;
use utoipa::OpenApi;

use super::{
    apps, deployment_logs, deployments, events, explain, hosts, incidents, instances, logs,
    notifiers, operations, secrets, shards, snapshot, watches, wire,
};

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
        secrets::list,
        secrets::patch,
        secrets::put,
        secrets::delete,
        secrets::rotate_key,
        deployment_logs::logs,
        shards::list,
        shards::read,
        shards::put,
        shards::delete,
        shards::deploy,
        instances::instances,
        events::list,
        events::of_app,
        operations::list,
        operations::read,
        operations::cancel,
        operations::audit,
        watches::watch,
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
        incidents::list,
        incidents::read,
        incidents::acknowledge,
        incidents::resolve,
        incidents::note,
        notifiers::list,
        notifiers::read,
        notifiers::put,
        notifiers::delete,
        notifiers::preview,
        notifiers::test,
        snapshot::read,
        snapshot::confirm,
    ),
    components(schemas(wire::ProblemDetails))
)]
struct Document;

pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
